# Dynat in a container:                    docker build -t dynat .
# To look at runs only, without torch:     docker build -t dynat:view --build-arg REQUIREMENTS=requirements-view.txt .
# A smaller image for machines with no GPU: docs/docker.md.
#
# The server listens on all addresses INSIDE the container, and without sign-in (docs/sign-in.md) it lets everybody do
# everything: publish the port to your own machine alone (-p 127.0.0.1:8501:8501), as compose.yaml does, and say so with
# -e DYNAT_GUARDED=1, or every screen warns.
FROM python:3.11-slim-bookworm

# tini passes signals on and reaps what an ended worker leaves behind. No version is named, because Debian keeps only the
# newest of a release: a named one could not be installed any more after the next.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 dynat \
    && mkdir -p /data /dynat/checkpoints /dynat/static \
    && chown -R dynat:dynat /data /dynat

# The browser's address is given so that the start does not ask the internet for this machine's own.
ENV PYTHONUNBUFFERED=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_BROWSER_SERVER_ADDRESS=localhost \
    STREAMLIT_SERVER_PORT=8501 \
    STREAMLIT_SERVER_HEADLESS=true \
    STREAMLIT_SERVER_FILE_WATCHER_TYPE=none \
    DYNAT_STORE=/dynat/checkpoints \
    DYNAT_DATA=/data

WORKDIR /dynat

# Before the code, so that a change of the code installs nothing again.
ARG REQUIREMENTS=requirements.txt
ARG PIP_EXTRA_INDEX_URL=
COPY requirements.txt requirements-view.txt ./
RUN pip install --no-cache-dir -r "$REQUIREMENTS"
ARG SIGN_IN=
COPY requirements-signin.txt ./
RUN if [ -n "$SIGN_IN" ]; then pip install --no-cache-dir -r requirements-signin.txt; fi

COPY --chown=dynat:dynat . .
USER 1000
# Lays plotly.js into static/ now, so that nothing but the two volumes is written later.
RUN python -c "from ui.scrubber import plotly_url; print(plotly_url())"

# The start then says to open the published port, not how to reach this container's name with ssh.
ENV DYNAT_CONTAINER=1
EXPOSE 8501
VOLUME ["/dynat/checkpoints", "/data"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
