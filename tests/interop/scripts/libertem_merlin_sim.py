"""LiberTEM-live's Merlin simulator replays a .hdr/.mib pair until its input is closed.

Prints its control and data ports as JSON when it listens.
"""

import json
import sys
import time

from libertem_live.detectors.merlin.sim import CameraSim

path, depth, garbage = sys.argv[1], sys.argv[2], sys.argv[3] == "garbage"
detector = CameraSim(
    path,
    nav_shape=None,
    host="127.0.0.1",
    data_port=0,
    control_port=0,
    trigger_port=0,
    wait_trigger=True,
    garbage=garbage,
    initial_params={
        "SOFTWAREVERSION": "0.67.0.9",
        "DETECTORSTATUS": "0",
        "IMAGEX": "256",
        "IMAGEY": "256",
        "COUNTERDEPTH": depth,
    },
)
detector.start()
detector.wait_for_listen()
print(json.dumps([detector.control_t.port, detector.server_t.port]), flush=True)
sys.stdin.read()
detector.stop_event.set()
time.sleep(0)
