"""Pure functions of hardware: step time, KV memory, power. Floats or arrays in SI, no I/O."""
