FROM python:3.12-slim AS service
WORKDIR /premem
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[postgres,previews]'
EXPOSE 8321
USER 1000
CMD ["python", "-m", "service"]

FROM service AS worker
USER root
RUN pip install --no-cache-dir --constraint constraints.txt '.[vllm]'
USER 1000
ENV HOME=/tmp
CMD ["python", "-m", "worker"]
