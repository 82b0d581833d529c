"""The world model and its parts: encoder, dynamics, posterior, decoder, heads, policy."""

from worldmodel.models.world import WorldModel as WorldModel
from worldmodel.models.world import build as build
from worldmodel.models.world import refuse_infinite_weights as refuse_infinite_weights
