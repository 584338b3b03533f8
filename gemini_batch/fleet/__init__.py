"""The same run on many machines: what a worker does, without Celery. `workers/` is the Celery around it."""
