os.environ |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}  # CPU
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no messages but errors
stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nor those of the start
import tensorflow as tf

os.dup2(stderr, 2)
