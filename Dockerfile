FROM python:3.11.15-slim

WORKDIR /pixel
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt
COPY . .

RUN useradd --system --uid 10001 pixel && install -d -o pixel -m 0700 /var/lib/pixel
USER pixel
# Inside a container only its own network reaches the port, so it listens on all addresses even with TRUSTED_HOPS.
ENV PIXEL_INSTANCE=/var/lib/pixel BIND=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
VOLUME /var/lib/pixel
EXPOSE 8000

# The tables are brought up to date first; on a database that is, this changes nothing.
CMD ["sh", "-c", "flask --app app db upgrade && exec gunicorn"]
