"""
The work of the language tasks with a model: functions that do not depend on Taskiq.

Each takes the job's `LLM` (`workers_general.llm.protocol`) and plain values.
"""
