// <metal_logging>: messages go nowhere, as on Metal unless the environment asks for them (MTL_LOG_LEVEL).
#pragma once

#include "msl/config.h"

namespace metal {

struct os_log {
  ZMLX_FN constexpr os_log() {}
  ZMLX_FN constexpr os_log(const char*, const char*) {}

  template <class... A>
  ZMLX_FN void log(const char*, A...) const {}
  template <class... A>
  ZMLX_FN void log_debug(const char*, A...) const {}
  template <class... A>
  ZMLX_FN void log_info(const char*, A...) const {}
  template <class... A>
  ZMLX_FN void log_error(const char*, A...) const {}
  template <class... A>
  ZMLX_FN void log_fault(const char*, A...) const {}
};

constexpr os_log os_log_default;

}  // namespace metal
