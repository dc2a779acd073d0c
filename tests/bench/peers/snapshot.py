"""TorchSnapshot: take, and async_take, which copies first and writes beside training."""
import torchsnapshot

from peer import Peer


def app_state(state):
    kept = torchsnapshot.StateDict()
    kept.update(state)
    return {"state": kept}


class Take(Peer):
    def save(self, state, step):
        torchsnapshot.Snapshot.take(str(self.files(step)), app_state(state))

    def load(self, state, step):
        wanted = app_state(state)
        torchsnapshot.Snapshot(str(self.files(step))).restore(wanted)
        for name, tensor in wanted["state"].items():  # in place where it can; nothing is copied then
            if tensor.data_ptr() != state[name].data_ptr():
                state[name].copy_(tensor)


class AsyncTake(Take):
    def save(self, state, step):
        self.pending = torchsnapshot.Snapshot.async_take(str(self.files(step)), app_state(state))

    def done(self):
        if not self.pending.done():
            return False
        self.pending.wait()
        return True
