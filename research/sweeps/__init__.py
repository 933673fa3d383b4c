"""Sweeps: which runs a question needs, their identity, where they are kept, and who trains them.

A planned run (`plan`) has an identity (`identity`: its config, the code that can change its numbers, its data) and a
folder of that name (`store`). Runs that differ in seed and numbers alone may train in one step (`grouping`). The engine
(`study`) gives what is not finished to an executor, a file of this folder with a function `execute` (`local`), and
everything afterwards reads the records (`results`).
"""
