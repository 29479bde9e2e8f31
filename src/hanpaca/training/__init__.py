"""One function for pretraining and instruction tuning."""
