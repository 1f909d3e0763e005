"""Pages of review: the queue with one proposal beside it, and the forms of what people do with it."""
