"""Istio's security policies: model, strict parser, compiler, evaluator, lint. Pure."""
