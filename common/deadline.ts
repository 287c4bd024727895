export interface Deadline {
  readonly signal: AbortSignal
  /** Lets go of the timer and of the outer signal, which may live much longer. */
  clear(): void
}

/**
 * A signal that aborts with `signal`, or after `ms` with a TimeoutError. Whoever asks for one clears it.
 *
 * AbortSignal.any() over AbortSignal.timeout() doesn't do: it holds the timeout weakly, and in Node 20 one that was
 * collected as garbage never comes.
 */
export function deadline(ms: number, signal?: AbortSignal): Deadline {
  const controller = new AbortController()
  const timer = setTimeout(() => {
    clear()
    controller.abort(new DOMException('no answer in time', 'TimeoutError'))
  }, ms).unref()
  const abort = () => {
    clear()
    controller.abort(signal?.reason)
  }
  const clear = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
  if (signal?.aborted) abort()
  else signal?.addEventListener('abort', abort, { once: true })
  return { signal: controller.signal, clear }
}
