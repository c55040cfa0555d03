FROM python:3.11.15-slim

WORKDIR /pixel
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt
COPY . .

RUN useradd --system --uid 10001 pixel && install -d -o pixel /var/lib/pixel
USER pixel
ENV PIXEL_INSTANCE=/var/lib/pixel PYTHONDONTWRITEBYTECODE=1
VOLUME /var/lib/pixel
EXPOSE 8000

# The tables are brought up to date first; on a database that is, this changes nothing.
CMD ["sh", "-c", "flask --app app db upgrade && exec gunicorn"]
