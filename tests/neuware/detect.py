"""Has gpustack-runtime detect the cards through libcndev.so, and prints what it sees as JSON."""

import json

from gpustack_runtime.detector.cambricon import CambriconDetector

detector = CambriconDetector()
assert detector.is_supported(), "the detector does not take libcndev.so"
devices = detector.detect_info()
detector.detect_usage(devices)
print(
    json.dumps(
        [
            {
                "index": device.index,
                "name": device.name,
                "uuid": device.uuid,
                "memory": device.memory,
                "memory_used": device.memory_used,
                "temperature": device.temperature,
                "power_used": device.power_used,
                "cores_utilization": device.cores_utilization,
                "memory_status": str(device.memory_status),
            }
            for device in devices
        ]
    )
)
