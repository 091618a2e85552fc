"""Philox4x32-10 in Metal: four random words from a counter and a key, by integer arithmetic, the same everywhere.

Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.3.
"""

from __future__ import annotations

PHILOX = """
METAL_FUNC uint4 zmlx_philox(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    const uint high_x = mulhi(counter.x, 0xd2511f53u), low_x = counter.x * 0xd2511f53u;
    const uint high_z = mulhi(counter.z, 0xcd9e8d57u), low_z = counter.z * 0xcd9e8d57u;
    counter = uint4(high_z ^ counter.y ^ key.x, low_z, high_x ^ counter.w ^ key.y, low_x);
    key = uint2(key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
  }
  return counter;
}

// In the middle of one of 2**23 equal parts of (0, 1): exact in float32, and neither 0 nor 1.
METAL_FUNC float zmlx_uniform(uint word) { return (static_cast<float>(word >> 9) + 0.5f) * 1.1920928955078125e-7f; }
"""
