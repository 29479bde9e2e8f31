"""Chat templates that can be asked for by name: for training, chat, server, GGUF and Modelfile."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""OpenAI's ChatML, without a system prompt of its own."""

ALPACA = (
    "{{ bos_token }}Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Response:\\n\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n\\n' }}{% endif %}"
)
"""The prompt of Stanford Alpaca, an end after every answer."""

_OPENING = "Below is an instruction that describes a task. "
_REQUEST = "Write a response that appropriately completes the request."


def _alpaca(opening: str) -> str:
    """Turns as the reference trains and its web page asks: earlier answers without an end."""
    return (
        "{{ bos_token + '" + opening.replace("\n", "\\n") + "' }}"  # as blocks lose spaces before
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '### Response: ' + message['content'] + (eos_token if loop.last else '\\n\\n') }}"
        "{% else %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '### Response: ' }}{% endif %}"
    )


_LLAMA_CPP = (
    "{{ bos_token }}" + _OPENING + _REQUEST + "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + (eos_token if loop.last else '') }}"
    "{% elif message['role'] == 'system' %}{{ '\\n\\n' + message['content'] }}"
    "{% else %}"
    "{{ '\\n\\n### Instruction:\\n\\n' + message['content'] + '\\n\\n### Response:\\n\\n' }}"
    "{% endif %}{% endfor %}"
)

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] | trim + ' ' + eos_token }}"
    "{% else %}{{ bos_token + '[INST] ' + (system if loop.first else '')"
    " + message['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}"
)
"""Llama-2-chat's, as its authors publish it (llama, generation.py)."""

LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""Llama-3-Instruct's, as its model card writes it."""

NAMED = {
    "chatml": CHATML,
    "alpaca": ALPACA,
    "alpaca-training": _alpaca(f"{_OPENING}{_REQUEST}\n\n"),
    "alpaca-inference": _LLAMA_CPP,
    "alpaca-gradio": _alpaca(f"{_OPENING}{_REQUEST}\n    \n"),
    "alpaca-langchain": _alpaca(f"{_OPENING}\n{' ' * 20}{_REQUEST}\n\n\n{' ' * 20}"),
    "alpaca-llama.cpp": _LLAMA_CPP,
    "llama-2": LLAMA_2,
    "llama-3": LLAMA_3,
}
"""Templates by name.

Those of the Chinese Alpaca models are five, as their training script, inference script, web page,
LangChain example and llama.cpp's `-ins` spell the same prompt otherwise, to the byte (release 3.2).
A model does best with what it was trained on.
"""
