"""Run, train and evaluate the arms of an experiment."""
