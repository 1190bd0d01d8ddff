FROM python:3.12-slim AS service
WORKDIR /premem
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt . './service[postgres,previews]'
EXPOSE 8321
USER 1000
CMD ["premem", "serve"]

FROM service AS worker
USER root
# Without the constraints, whose triton is that of vLLM's CPU build; what the service brought is kept.
RUN pip install --no-cache-dir './worker[vllm]' vllm==0.32.0
USER 1000
ENV HOME=/tmp
CMD ["premem", "worker"]
