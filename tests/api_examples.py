"""The examples of docs/api.md, one for each public name; a test runs them from top to bottom."""

# ruff: noqa: F821, E402  (a test gives camera, robot, Corridor)

# --- Config
import dataclasses

import worldmodel

config = worldmodel.Config(task="toy", seed=1)
longer = dataclasses.replace(config, planner=dataclasses.replace(config.planner, horizon=8))

# --- ConfigError
try:
    worldmodel.Config(seed=-1)
except worldmodel.ConfigError as error:
    print(error)  # seed: expected 0 or more, got -1

# --- train
outcome = worldmodel.train(config, "runs/one", minutes=30)  # the same call again resumes the run
print(outcome.env_steps, outcome.returns)

# --- load
agent = worldmodel.load("runs/one", strict=True)  # strict: never an older checkpoint
print(agent.origin.env_steps, agent.origin.checkpoint)

# --- open_run
run = worldmodel.open_run("runs/one")  # numbers and figures, as in a notebook
print(run)  # Run(toy, 60,000 env steps, best score 74.2, 10 held-out episodes)
prediction = run.predict(episode=0, seen=5, ahead=45)
print(prediction.model_images.shape, prediction.axes["model_images"])
print(prediction.error, prediction.error_hold_last)  # by rows ahead

# --- fit_image
image = worldmodel.fit_image(camera(), 64, "crop", order="BGR")  # as opencv gives it

# --- Agent
agent.warm_up()  # before a robot waits
belief, action, plan = agent.initial(), agent.no_action(), None
for _ in range(3):
    belief = agent.observe(belief, action, camera())  # what was done, what was seen
    plan = agent.plan(belief, previous=plan, deadline_ms=1000)
    action = robot.execute(plan.first)  # the robot may clip or refuse

# --- Plan
print(plan)  # Plan(search, first [0.41, -0.2], value 3.2, 3 iterations, 11.8 ms)
print(plan.origin, plan.milliseconds, plan.sequence.shape)

# --- Limits
limits = worldmodel.Limits(low=-0.5, high=0.5, max_change=0.2)
plan = agent.plan(belief, limits=limits.after(action))

# --- within
quick = worldmodel.within(agent, deadline_ms=10_000)  # as many candidates as fit here
print(quick.planner.candidates)

# --- Controller
with worldmodel.Controller(
    agent, rate_hz=2, low=[-2, -2], high=[2, 2], max_change=1.0, max_age_s=5.0, black_box="stops"
) as controller:
    executed = None
    for _ in range(3):
        executed = robot.execute(controller.step(camera(), executed))
    print(controller, controller.counts)

# --- make_env
env = worldmodel.make_env("toy", config.env)
first = env.reset(seed=0)

# --- Step
step = env.step(env.action_low)
print(step.image.shape, step.reward, step.discount, step.is_last)

# --- evaluate
evaluated = worldmodel.evaluate(agent, env, episodes=1)
print(evaluated.returns.mean())

# --- Episode
episode = evaluated.episodes[0]
print(len(episode), episode.total_reward, episode.image.shape)

# --- Batch
import torch

names = ("image", "action", "reward", "discount")
stacked = {name: torch.as_tensor(getattr(episode, name))[None] for name in names}
batch = worldmodel.Batch(**stacked, valid=torch.ones(1, len(episode), dtype=torch.bool))

# --- Latent
print(belief.shape, belief.features.shape)  # no leading axes, and [F] numbers

# --- as_gym
gym_env = worldmodel.as_gym(Corridor())
image, about = gym_env.reset(seed=0)
