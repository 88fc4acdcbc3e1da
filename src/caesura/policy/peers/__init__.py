"""Other systems' rules, each as published, to be measured against."""
