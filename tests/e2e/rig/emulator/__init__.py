"""The fleet emulator: stands in for model servers, DCGM, the cloud API and the router before them.

kwok pods have addresses but no process. This one process runs a request-level replica model
(`spillway.sim.replica`) for every Ready pod of its pools in real time, sends it seeded traffic as a
Service with a burst-capable router would, and serves what the real parts would serve::

    settings    what a test or the demo configures: pools, rates, faults
    podwatch    list + watch of pods        ->  fleet, pool, pod   the state, moved by ticks
    overflow    the operator's values       ->  router             local or cloud
    pages       vLLM, DCGM, gateway, service discovery
    server      HTTP: pages and the control API        __main__    the command
"""
