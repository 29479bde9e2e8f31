import json
from pathlib import Path

import pytest

LINES = (
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "千山鸟飞绝，万径人踪灭。孤舟蓑笠翁，独钓寒江雪。",
)
ENGLISH = (
    "All happy families are alike; each unhappy family is unhappy in its own way.",
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "The quick brown fox jumps over the lazy dog while the other dogs look on.",
)


@pytest.fixture(scope="session")
def pico_recipe(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe on the user's own files that runs through every stage in under a minute."""
    folder = tmp_path_factory.mktemp("own")
    texts = [f"{LINES[n % 4]}第{n}首。" for n in range(80)]
    (folder / "zh.txt").write_text("\n\n".join(texts), encoding="utf-8")
    english = [f"{ENGLISH[n % 3]} Number {n}." for n in range(60)]
    (folder / "en.txt").write_text("\n\n".join(english), encoding="utf-8")
    rows = [{"instruction": f"写第{n}首诗。", "output": LINES[n % 4]} for n in range(30)]
    (folder / "chat.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"""
name: pico
base: {pico_base}
data: {{text: [zh.txt], replay: [en.txt], instructions: [chat.json], heldout_documents: 8,
        heldout_questions: 4}}
tokenizer: {{num_pieces: 20}}
rows: {{untie: true}}
pretrain: {{num_tokens: 1024, block_tokens: 64, learning_rate: 1e-3, checkpoint_steps: 2,
            sample_steps: 4, lora: {{rank: 4}}}}
sft: {{num_tokens: 512, block_tokens: 64, template: chatml, lora: {{rank: 4}}}}
gguf: {{types: [f16, q8_0]}}
eval: {{num_questions: 4, heldout_characters: 200, english_characters: 300, max_answer_tokens: 16}}
""",
        encoding="utf-8",
    )
    return recipe
