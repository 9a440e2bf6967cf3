"""Compare arms over seeds and items: verdict, gates, curve, recommendation."""
