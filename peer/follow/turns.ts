interface Waiting {
  readonly name: string
  /** who told of it */
  readonly peer: string
}

/** What waits, in order, but each peer in its turn: one that tells of very much holds up no other. */
export class Turns<T extends Waiting> {
  readonly #peers = new Map<string, Map<string, T>>()
  readonly #names = new Map<string, T>()

  /** In place of what waits under that name. */
  add(item: T): void {
    this.delete(item.name)
    this.#names.set(item.name, item)
    const items = this.#peers.get(item.peer) ?? new Map<string, T>()
    this.#peers.set(item.peer, items.set(item.name, item))
  }

  get(name: string): T | undefined {
    return this.#names.get(name)
  }

  delete(name: string): void {
    const item = this.#names.get(name)
    if (!item) return
    this.#names.delete(name)
    const items = this.#peers.get(item.peer)!
    items.delete(name)
    if (items.size === 0) this.#peers.delete(item.peer)
  }

  /** Takes the next one out; undefined where nothing waits. `passesOver`: peers whose turn has not come */
  next(passesOver: (peer: string) => boolean): T | undefined {
    for (const [peer, items] of this.#peers) {
      if (passesOver(peer)) continue
      const [item] = items.values()
      this.delete(item!.name)
      // The others of this peer wait until all other peers had their turn.
      if (this.#peers.delete(peer)) this.#peers.set(peer, items)
      return item
    }
    return undefined
  }
}
