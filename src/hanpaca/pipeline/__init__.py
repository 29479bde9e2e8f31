"""The main job: stages in order, each skipped when its very work is already there.

    05-data -> 10-tokenizer -> 20-base -> 30-pretrain -> 40-merged -> 50-sft -> 60-chat -> 70-gguf
    -> 80-eval

The order stands in `run.py`; one module a stage. Nothing is imported here, so that `plan` and
`status` need no torch.
"""
