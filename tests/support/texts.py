"""Texts that models and tokenizers of the tests are made of."""

ENGLISH = """The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst
of times. All happy families are alike; each unhappy family is unhappy in its own way. In 1984 there
were 365 days and 12 months; def main(x): return x + 1. People create theories and write articles.
"""
CHINESE = """白日依山尽，黄河入海流。欲穷千里目，更上一层楼。
床前明月光，疑是地上霜。举头望明月，低头思故乡。
春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。千山鸟飞绝，万径人踪灭。孤舟蓑笠翁，独钓寒江雪。
"""
POEMS = (
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "千山鸟飞绝，万径人踪灭。孤舟蓑笠翁，独钓寒江雪。",
)
SENTENCES = (
    "All happy families are alike; each unhappy family is unhappy in its own way.",
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "The quick brown fox jumps over the lazy dog while the other dogs look on.",
)
