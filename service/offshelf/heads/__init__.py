"""Linear models on features: fitting, saving, loading, predicting and scoring."""
