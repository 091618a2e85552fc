// The Metal Shading Language as kernels see it: types, vectors, maths, integers and MLX's prelude.
//
// simd functions, atomics and barriers depend on how threads are run; host_*.h and cuda_*.h add them to what msl/sync.h
// declares.
#pragma once

#include "msl/config.h"
#include "msl/traits.h"
#include "msl/types.h"
#include "msl/vector.h"
#include "msl/overload.h"
#include "msl/syntax.h"
#include "msl/math.h"
#include "msl/relational.h"
#include "msl/geometric.h"
#include "msl/integer.h"
#include "msl/pack.h"
#include "msl/builtins.h"
#include "msl/matrix.h"
#include "msl/logging.h"
#include "msl/more_traits.h"
#include "msl/simd_types.h"
#include "msl/wide_vector.h"
#include "msl/mlx_prelude.h"
