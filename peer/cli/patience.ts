import { NetworkError } from '../../common/errors.ts'

/** Bounds how long a download may be without any provider. */
export class Patience {
  readonly #seconds: number | undefined
  readonly #over = new AbortController()
  #timer: NodeJS.Timeout | undefined

  /** undefined: no bound */
  constructor(seconds: number | undefined) {
    this.#seconds = seconds
  }

  /** Aborts once nobody was there for so long. */
  get signal(): AbortSignal {
    return this.#over.signal
  }

  get error(): NetworkError {
    return new NetworkError('unavailable', `no provider was there for ${this.#seconds} s, given up`)
  }

  /** Whether nobody is there now. */
  waits(waits: boolean): void {
    if (!waits) this.end()
    else if (this.#seconds !== undefined) this.#timer ??= setTimeout(() => this.#over.abort(), this.#seconds * 1000)
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
