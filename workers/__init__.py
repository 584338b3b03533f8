"""Celery workers of gemini-batch-dist: the only package that imports Celery."""
