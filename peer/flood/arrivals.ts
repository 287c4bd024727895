/** What several senders bring, to be taken in the order in which it comes. */
export class Arrivals<T> {
  readonly #items: T[] = []
  #ended = false
  #wake: (() => void) | undefined

  put(item: T): void {
    if (this.#ended) return
    this.#items.push(item)
    this.#wake?.()
  }

  /** Nothing more comes; what is there already is still taken. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  async *take(): AsyncGenerator<T, void> {
    for (;;) {
      const item = this.#items.shift()
      if (item !== undefined) yield item
      else if (this.#ended) return
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}
