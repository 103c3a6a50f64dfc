# %% [markdown]
# # Load a trained policy, and film it
#
# A policy is loaded from the folder of a run, or from a model that
# `experiments/export.py` wrote. First, one is trained for some seconds.

# %%
import gymnasium
from gymnasium.utils.save_video import save_video
import numpy as np

import a3c_jax
from a3c_jax import training
from a3c_jax.envs import catch
from a3c_jax.settings import config

training.run(
  config.make(
    'catch',
    algo='nstep_q',
    threads=2,
    frames=20_000,
    exploration_anneal_frames=5_000,
    workdir='runs/to-film',
  )
)

# %% [markdown]
# The policy takes observations of K environments and gives K actions. It needs
# no environment, and none of the settings of the run.

# %%
policy = a3c_jax.load('runs/to-film')
env = catch.Catch(render_mode='rgb_array')
state = policy.initial_state(seed=1)
frames, returns = [], []
for episode in range(10):
  obs, _ = env.reset(seed=episode)
  total, done = 0.0, False
  while not done:
    frames.append(env.render())
    action, state = policy(obs[None], state)
    obs, reward, terminated, truncated, _ = env.step(action[0])
    total += reward
    done = terminated or truncated
  frames.append(env.render())
  returns.append(total)
print('returns', returns, 'mean', np.mean(returns))

# %%
try:
  save_video(
    frames,
    'films',
    episode_trigger=lambda episode: True,
    fps=4,
    name_prefix='catch',
  )
except gymnasium.error.DependencyNotInstalled:
  print("for films: pip install 'a3c_jax[video]'")
