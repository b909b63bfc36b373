"""MLflow's server application, without its process manager: `python mlflow_server.py PORT FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow import server
from werkzeug.serving import run_simple

if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder / 'server.db'}"
    os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(folder / "artefacts")
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    run_simple("127.0.0.1", port, server.app, threaded=True)
