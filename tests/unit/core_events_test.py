from a3c_jax.core import events


def test_events_are_drained_once_and_in_order():
  queue = events.EventQueue()
  items = [events.Incident('env_restarts', text) for text in 'abc']
  for item in items:
    queue.add(item)
  assert queue.drain() == items
  assert queue.drain() == []
