"""The learned parts: encoder, dynamics, decoder, heads, policy; each one file with one verb."""

from worldmodel.models.world import WorldModel as WorldModel
