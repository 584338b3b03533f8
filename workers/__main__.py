"""`python -m workers`: a Celery worker, arguments as Celery's. Unlike `celery -A`, it imports nothing from the current
directory in our place."""

import sys

from workers.app import app

if __name__ == "__main__":
    app.worker_main(["worker", *sys.argv[1:]])
