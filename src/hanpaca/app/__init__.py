"""Web pages over the core; nothing below imports it."""

import os

# Read by Gradio when it is imported: no count of launches, no look for newer versions.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
