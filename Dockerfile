# To pin an image by its content, add the digest to its tag, here and in compose.yaml:
# `docker buildx imagetools inspect IMAGE:TAG` prints it, and `FROM IMAGE:TAG@sha256:DIGEST` uses it.
FROM python:3.11.15-slim-trixie

WORKDIR /pixel
COPY requirements.lock ./
RUN sed '/^# Development/,$d' requirements.lock | pip install --no-cache-dir --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: -r /dev/stdin
COPY . .

RUN useradd --system --uid 10001 pixel && install -d -o pixel -m 0700 /var/lib/pixel
USER pixel
# Inside a container only its own network reaches the port, so it listens on all addresses even with TRUSTED_HOPS.
ENV PIXEL_INSTANCE=/var/lib/pixel BIND=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
VOLUME /var/lib/pixel
EXPOSE 8000

# The tables are brought up to date first; on a database that is, this changes nothing.
CMD ["sh", "-c", "flask --app app db upgrade && exec gunicorn"]
