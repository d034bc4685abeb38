"""The notifier, which publishes the changes of jobs live to listeners."""
