"""Alert rules for Prometheus and a dashboard for Grafana, over the metrics of sidecars, agents and servers."""
