/** A store for the mqtt package that keeps nothing: what is unacknowledged stands in the journal, not in its memory. */
import { Store } from 'mqtt';

type Put = Parameters<Store['put']>;
type Del = Parameters<Store['del']>;

export class NoStore extends Store {
  override put(_packet: Put[0], done: Put[1]): this {
    done();
    return this;
  }

  override del(_packet: Del[0], done: Del[1]): this {
    done();
    return this;
  }
}
