"""llama.cpp's HTTP server in a process of its own: `python llama_server.py MODEL CONTEXT [KEY]`."""

import sys

import xllamacpp

SLOTS = 2


def main(model: str, context_tokens: str, *keys: str) -> None:
    """Print the URL; end when standard input does."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = int(context_tokens) * SLOTS
    params.n_parallel = SLOTS
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.model_alias = {"random"}
    params.endpoint_slots = True
    params.warmup = False
    params.verbosity = 0
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.api_keys = list(keys)
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
