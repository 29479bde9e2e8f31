"""The main job: stages in order, each skipped when its very work is already there.

05-data -> 10-tokenizer -> 20-base -> 30-pretrain -> 40-merged -> 50-sft -> 60-chat -> 70-gguf
-> 80-eval
"""

from hanpaca.pipeline.job import Job, Update
from hanpaca.pipeline.run import STAGES, run_recipe

__all__ = ["STAGES", "Job", "Update", "run_recipe"]
