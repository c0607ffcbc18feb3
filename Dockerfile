FROM python:3.13-slim AS build
COPY . /src
RUN pip install --no-cache-dir --prefix /noah '/src[fast,server]'

FROM python:3.13-slim
COPY --from=build /noah /usr/local
RUN useradd --system --uid 10001 noah && install -d -o noah -m 700 /var/lib/noah
USER 10001
ENTRYPOINT ["noah"]
CMD ["serve"]
