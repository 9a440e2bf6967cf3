"""Models and results from elsewhere: lm-eval, item files, other run folders."""
