"""The types weights are stored in, as safetensors names them, in torch."""

import torch

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
