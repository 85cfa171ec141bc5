"""The compiled kernel: one deployment of equal replicas, served in machine code.

Between two events that concern it a deployment is alone with its requests. Here it is arrays and
plain functions that numba compiles; SimPy conducts, and the kernel is brought up to date whenever
somebody looks at the deployment or gives it an order. What the functions do is what `gateway`,
`replica` and `engine` do, in the same order: tests hold the two together.
"""
