"""What commands are for in a line, and the end of their help: examples and exit codes.

One place, so that the help, the reference (tools/gen_reference.py) and the tests, which run or
parse each of them, have the same.
"""

from __future__ import annotations

from typing import Final

#: By command: what the list of commands says of it. Here, and not read from the command, so that
#: the list imports none of them; a test holds it to the first paragraph of the command's own help.
SUMMARIES: Final[dict[str, str]] = {
    "explain": "Say why a pool has the replicas it has: load, capacity, prices, limits, cost.",
    "top": "Show what every pool carries, holds, sends away and costs, as its status last said.",
    "validate": "Check every InferencePool in the files, without a cluster.",
    "simulate": (
        "Replay a load through Spillway's own core, rivals and the optimum, and compare the bills."
    ),
    "backtest": (
        "Replay the recorded past of a pool through Spillway's core, rivals and the optimum."
    ),
    "plan": "What serving a load costs: API, own GPUs, and what lies between.",
    "plan tco": (
        "A month's bill of the API, of own GPUs, and of both: from four numbers, or from a trace."
    ),
    "plan crossover": ("From which steady volume on own GPUs are cheaper, and how prices move it."),
    "plan rightsizing": (
        "Which GPUs and precisions hold a model and its contexts, and what a token costs on each."
    ),
    "plan autoscaling": (
        "Fixed capacity for the peak against autoscaled capacity, by a formula of means."
    ),
    "plan agents": "What an agent's task costs that sends its context again with every call.",
    "plan rag": "What retrieval-augmented answers cost: long prompts, short answers.",
    "plan levers": (
        "What each request-level lever saves of an API bill, alone and after the ones before it."
    ),
    "plan prices": (
        "Check price files: what they hold, and what the operator would not believe. Exit code 5."
    ),
    "run": (
        "Run the operator until SIGTERM. Every other setting is an environment variable SPILLWAY_*."
    ),
    "crd": "Print the CustomResourceDefinition of InferencePool.",
    "edge": "Write the bootstrap of a stock Envoy that admits requests before a pool.",
    "reset-routes": (
        "Bring back the weights of HTTPRoutes whose pool's overflow value has expired."
    ),
    "release": "Hand every pool back before the operator is uninstalled.",
    "demo": (
        "Run the operator on a real control plane with emulated GPUs, through a ramp and a spike."
    ),
    "completion": "Print the completion script of a shell.",
}
#: By command: what an example does, and the command line.
EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "run": (
        ("Beside a cluster, changing nothing but status", "spillway run --read-only"),
        (
            "Another Prometheus, through its settings",
            "SPILLWAY_PROMETHEUS_URL=https://metrics.example SPILLWAY_LOG_LEVEL=debug spillway run",
        ),
    ),
    "validate": (
        ("One file", "spillway validate manifests/samples/inferencepool.yaml"),
        (
            "A namespace as it would be applied; warnings fail too",
            "kubectl kustomize overlays/serving | spillway validate --strict -",
        ),
        (
            "What a script needs of it",
            "spillway validate --json manifests/samples/minimal.yaml",
        ),
    ),
    "explain": (
        ("A pool of the cluster", "kubectl spillway explain llama-8b -n serving"),
        ("One that somebody saved", "spillway explain --file pool.yaml"),
        (
            "From a cluster that this machine can't reach",
            "kubectl get spool llama-8b -n serving -o yaml | spillway explain -f -",
        ),
    ),
    "top": (
        ("The pools of a namespace", "kubectl spillway top -n serving"),
        ("All of them, the dearest first, until Ctrl-C", "spillway top -A --sort cost --watch"),
        (
            "Pools that send something away",
            "spillway top -A --json | jq '.pools[] | select(.overflow > 0)'",
        ),
    ),
    "crd": (
        ("Apply it", "spillway crd | kubectl apply --server-side -f -"),
        ("As JSON", "spillway crd --json"),
    ),
    "edge": (
        (
            "What Envoy reads at the start of its pod",
            'spillway edge edge.yaml --gateway "$HOSTNAME" --out envoy.json',
        ),
    ),
    "demo": (
        ("From a checkout", "spillway demo"),
        ("Shorter, for a script", "spillway demo --minutes 3 --json"),
    ),
    "completion": (
        ("In this shell", "source <(spillway completion bash)"),
        (
            "In every fish",
            "spillway completion fish > ~/.config/fish/completions/spillway.fish",
        ),
    ),
    "release": (
        ("Before helm uninstall", "kubectl spillway release"),
        ("What was given back, for a script", "spillway release --json"),
    ),
    "reset-routes": (("In a CronJob", "spillway reset-routes --json"),),
    "simulate": (
        ("A made-up day, against rivals and the optimum", "spillway simulate"),
        (
            "Seconds instead of a minute",
            (
                "spillway simulate --scenario launch --days 0.05 --replicas 4 --compare none "
                "--no-optimum --jobs 1"
            ),
        ),
        (
            "A public trace and a pool's own terms, as a page",
            "spillway simulate trace.csv.gz --pool pool.yaml --report report.html",
        ),
    ),
    "backtest": (
        (
            "The last week of a pool",
            "spillway backtest --pool pool.yaml --prometheus-url http://localhost:9090",
        ),
        (
            "Take the record with you, replay it elsewhere",
            "spillway backtest --pool pool.yaml --since 30d --save record.json",
        ),
    ),
    "plan tco": (
        (
            "The month's bill, from four numbers",
            (
                "spillway plan tco --input-tokens 1500 --output-tokens 300 --p95-rps 40 "
                "--api-input 0.30 --api-output 0.60 --replica-hour 3.50 --rps-per-replica 6"
            ),
        ),
    ),
    "plan crossover": (
        (
            "The load from which own GPUs are cheaper",
            (
                "spillway plan crossover --input-tokens 1500 --output-tokens 300 --api-input 0.30 "
                "--api-output 0.60 --replica-hour 3.50 --rps-per-replica 6"
            ),
        ),
    ),
    "plan rightsizing": (
        (
            "Which GPUs hold and serve a model",
            (
                "spillway plan rightsizing --model llama-3.1-8b --gpu h100=3.5 --gpu l40s=1.1 "
                "--input-tokens 1500 --output-tokens 300"
            ),
        ),
    ),
    "plan autoscaling": (
        (
            "What scaling saves of a fixed fleet",
            (
                "spillway plan autoscaling --peak-rps 200 --mean-rps 40 --rps-per-replica 100 "
                "--replica-hour 3.06"
            ),
        ),
    ),
    "plan agents": (
        (
            "A task of 25 calls that sends its context again each time",
            "spillway plan agents --calls 25 --api-input 3 --api-output 15 --api-cached 0.3",
        ),
    ),
    "plan rag": (
        (
            "Long prompts, short answers, with and without caches",
            "spillway plan rag --api-input 0.30 --api-output 0.60",
        ),
    ),
    "plan levers": (
        (
            "What each way to a smaller bill is worth",
            (
                "spillway plan levers --input-tokens 3500 --output-tokens 800 --api-input 30 "
                "--api-output 60 --monthly-usd 82000"
            ),
        ),
    ),
    "plan prices": (
        ("Check a price map", "spillway plan prices --price-map prices.json --model llama-3.1"),
    ),
}

_EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 it ran and failed, 2 a flag or file is wrong, 3 API server or "
    "Prometheus not reached, 4 permission missing, 5 objects not valid."
)
#: After the list of all commands.
ROOT_EPILOG: Final = f"""\
Also as kubectl spillway. Settings of the operator are variables SPILLWAY_*; NO_COLOR turns \
colours off, and without a terminal there are none.

{_EXIT_CODES}"""


def epilog(command: str) -> str | None:
    """What stands at the end of a command's help, in the form that typer keeps the lines of.

    None for a group, which has no examples of its own.
    """
    if command not in EXAMPLES:
        return None
    lines = [f"  # {does}\n  $ {line}" for does, line in EXAMPLES[command]]
    # \b keeps typer from joining the lines of a paragraph; a bracket would be rich's markup.
    examples = "\n".join(["Examples:", *lines]).replace("[", "\\[")
    return f"\b\n{examples}\n\n{_EXIT_CODES}"
