"""The InferencePool resource: pydantic models, CRD generator, conditions and reasons."""
