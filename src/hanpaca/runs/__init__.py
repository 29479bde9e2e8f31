"""Recipes and run folders: stages in order, each skipped when its very work is already there.

    05-data -> 10-tokenizer -> 20-base -> 30-pretrain -> 40-merged -> 50-sft -> 60-chat -> 70-gguf
    -> 80-eval, and 52-tuned -> 55-dpo before 60-chat where there are preferences

The order stands in `stages.py`. Nothing is imported here, so that `plan` and `status` need no
torch.
"""
