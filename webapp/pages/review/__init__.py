"""The queue, one proposal beside it, and what people do with it."""
