"""
What the language tasks do, with a model: functions that know no Taskiq.

Each takes the job's `LLM` (`workers_general.llm.protocol`) and plain values.
"""
